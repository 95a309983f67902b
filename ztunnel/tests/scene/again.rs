//! A proxy that is gone for a moment, as one whose container has crashed.

use std::thread;
use std::time::Duration;

use ambit_kit::pause;

use super::{Answer, How, Proxy, Scene, Who};

impl Scene {
    /// Kills the server's proxy, has the client ask while there is none, and starts another after `away`. Only in
    /// dedicated mode. Returns what the client got.
    pub(crate) fn ask_while_away(&mut self, away: Duration) -> Answer {
        {
            let mut child = self.server.proxy.child.lock().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let this = &*self;
        let (answer, proxy) = thread::scope(|scope| {
            let asking = scope.spawn(|| this.ask(Who::Client, "10.77.0.2:8080", "/"));
            pause(away);
            let proxy = Proxy::start(&this.server.namespace, "server", this.dir.path(), How::DEDICATED);
            (asking.join().unwrap(), proxy)
        });
        self.server.proxy = proxy;
        self.wait_until_ready(Who::Server);
        answer
    }
}
