//! The plugin with an arbitrary environment, configuration and daemon: its answer is always CNI's, and what it asks
//! is always a question to the daemon.
//! Input: lines `CNI_…=…`, the configuration, the daemon's answer; a byte 255 between them.
#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};

use ambit_cni::node::is_question;
use ambit_cni_plugin::{Surroundings, run};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tempfile::TempDir;

const NAMES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"];

/// The daemon, played: it reads the question and says what it was told to say.
struct Daemon {
    folder: TempDir,
    answers: Mutex<Sender<Vec<u8>>>,
}

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("pluginevent.sock")).unwrap();
    let (answers, told) = channel();
    std::thread::spawn(move || play(&listener, &told));
    Daemon { folder, answers: Mutex::new(answers) }
});

fn play(listener: &UnixListener, told: &Receiver<Vec<u8>>) {
    let mut answer = Vec::new();
    for stream in listener.incoming() {
        // The newest: a command that asks nothing leaves its answer behind.
        answer = told.try_iter().last().unwrap_or(answer);
        converse(stream.unwrap(), &answer);
    }
}

fn converse(mut stream: UnixStream, answer: &[u8]) {
    let mut reader = BufReader::new(&stream);
    let (mut path, mut length) = (String::new(), 0);
    reader.read_line(&mut path).unwrap();
    for line in reader.by_ref().lines() {
        let line = line.unwrap();
        if line.is_empty() {
            break;
        }
        if let Some(number) = line.strip_prefix("content-length: ") {
            length = number.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let about_a_pod = ["/cmdadd", "/cmddel", "/check"].iter().any(|it| path.contains(it));
    // The fuzzer's panic hook ends the process, whichever thread it is.
    assert!(!about_a_pod || is_question(&body), "not a question: {}", String::from_utf8_lossy(&body));
    let _ = stream.write_all(answer);
}

/// The configuration, with the played daemon's folder in place of any other.
fn at_ours(input: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(input) {
        Ok(Value::Object(mut members)) => {
            let folder = DAEMON.folder.path().to_str().unwrap();
            members.insert("cni_agent_run_dir".into(), folder.into());
            Value::Object(members).to_string().into()
        }
        _ => input.into(),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 255);
    let (Some(environment), Some(input)) = (parts.next(), parts.next()) else { return };
    let Ok(environment) = std::str::from_utf8(environment) else { return };
    let given: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter_map(|(name, value)| Some((*NAMES.iter().find(|it| **it == name)?, value)))
        .collect();
    DAEMON.answers.lock().unwrap().send(parts.next().unwrap_or_default().to_vec()).unwrap();
    let answer = run(&Surroundings::given(&given), &at_ours(input));
    if answer.output.is_empty() {
        assert!(answer.good);
        return;
    }
    let output: Value = serde_json::from_str(&answer.output).expect("JSON");
    assert!(output["cniVersion"].is_string(), "{output}");
    // A previous result is handed on whole, and may well have a member of that name.
    assert!(answer.good || output["code"].is_u64(), "{output}");
});
