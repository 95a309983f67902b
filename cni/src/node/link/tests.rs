//! The roster and its connections, without sockets: whatever happens in whatever order, the newest connection ends
//! up with everybody.

use std::collections::VecDeque;

use super::*;

/// What a played connection has been told: its queue, and whom it carries by now.
struct Proxy {
    number: u64,
    queue: mpsc::Receiver<Job>,
    snapshot: VecDeque<Job>,
    is_ready: bool,
    carries: BTreeMap<PodUid, NetnsId>,
}

impl Proxy {
    fn join(link: &Link) -> Self {
        let (number, queue, snapshot) = link.join();
        Self { number, queue, snapshot: snapshot.into(), is_ready: false, carries: BTreeMap::new() }
    }

    /// Does one thing that a connection does; false: nothing to do.
    fn step(&mut self, link: &Link) -> bool {
        if let Some(job) = self.snapshot.pop_front() {
            self.obey(link, job);
        } else if !self.is_ready {
            self.is_ready = true;
            link.ready(self.number);
        } else if let Ok(job) = self.queue.try_recv() {
            self.obey(link, job);
        } else {
            return false;
        }
        true
    }

    fn obey(&mut self, link: &Link, job: Job) {
        match (&job.request, &job.netns) {
            (Request::Add { uid, .. }, Some(netns)) => {
                self.carries.insert(uid.clone(), netns.id());
                link.acknowledged(self.number, uid, (netns.id(), false));
            }
            (Request::Del { uid }, _) => {
                link.forgotten(self.number, uid);
                self.carries.remove(uid);
            }
            _ => {}
        }
        let _ = job.reply.map(|reply| reply.send(Ok(None)));
    }
}

fn uid(number: u8) -> PodUid {
    PodUid::new(&format!("u-{number}")).unwrap()
}

fn info() -> PodInfo {
    PodInfo {
        name: "web".into(),
        namespace: "shop".parse().unwrap(),
        service_account: "web".parse().unwrap(),
    }
}

fn member(netns: &Arc<Netns>) -> Member {
    Member { info: info(), netns: Some(Arc::clone(netns)) }
}

fn namespaces() -> [Arc<Netns>; 2] {
    [(); 2].map(|()| Arc::new(Netns::anonymous().expect("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)")))
}

/// Plays random events; at the end the newest connection must carry exactly the roster.
fn drill(seed: u64, namespaces: &[Arc<Netns>; 2]) {
    // Xorshift: chance that repeats.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chance = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below).unwrap()
    };
    let link = Link::new();
    let mut proxies: Vec<Proxy> = Vec::new();
    for _ in 0..200 {
        let pod = uid(u8::try_from(chance(6)).unwrap());
        match chance(10) {
            0 if proxies.len() < 3 => proxies.push(Proxy::join(&link)),
            1 if !proxies.is_empty() => {
                let gone = proxies.remove(chance(3) % proxies.len());
                link.leave(gone.number);
            }
            2..4 => {
                let mut releasing = Box::pin(link.release(&pod));
                // Its first step queues what is to be told; the answers are given by later steps.
                let waker = std::task::Waker::noop();
                let _ = releasing.as_mut().poll(&mut std::task::Context::from_waker(waker));
            }
            4..7 => drop(link.ask(&pod, &member(&namespaces[chance(2)]))),
            _ if !proxies.is_empty() => {
                let which = chance(3) % proxies.len();
                proxies[which].step(&link);
            }
            _ => {}
        }
    }
    if proxies.is_empty() {
        proxies.push(Proxy::join(&link));
    }
    while proxies.iter_mut().any(|proxy| proxy.step(&link)) {}
    // Who asked while the newest had not had its snapshot is told to ask again, and does.
    let members = link.0.lock().members.clone();
    for (pod, member) in &members {
        drop(link.ask(pod, member).unwrap());
    }
    while proxies.iter_mut().any(|proxy| proxy.step(&link)) {}
    let roster: BTreeMap<_, _> =
        members.into_iter().filter_map(|(uid, it)| Some((uid, it.netns?.id()))).collect();
    let newest = proxies.last().unwrap();
    assert_eq!(newest.carries, roster, "seed {seed}");
    for (uid, netns) in &roster {
        assert!(link.carries(uid, *netns), "seed {seed}");
    }
    for older in &proxies {
        assert!(
            older.carries.keys().all(|uid| roster.contains_key(uid)),
            "seed {seed}: let go of everywhere"
        );
    }
}

// K16
#[tokio::test(start_paused = true)]
async fn in_whatever_order_things_happen_the_newest_connection_carries_exactly_the_roster() {
    let namespaces = namespaces();
    for seed in 1..500 {
        drill(seed, &namespaces);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_two_ask_for_is_told_of_once() {
    let (link, [netns, _]) = (Link::new(), namespaces());
    let mut proxy = Proxy::join(&link);
    while proxy.step(&link) {}
    let (first, second) =
        (link.ask(&uid(1), &member(&netns)).unwrap(), link.ask(&uid(1), &member(&netns)).unwrap());
    assert!(matches!((first, second), (Asked::Waiting(_), Asked::Waiting(_))));
    assert!(!link.is_known(proxy.number, &uid(1), netns.id()));
    assert!(proxy.step(&link));
    assert!(link.is_known(proxy.number, &uid(1), netns.id()), "the second is answered without the proxy");
    assert!(matches!(link.ask(&uid(1), &member(&netns)), Ok(Asked::Carried)));
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_connection_behind_another_asks_the_next_one() {
    let (link, [netns, _]) = (Link::new(), namespaces());
    let mut first = Proxy::join(&link);
    while first.step(&link) {}
    let (asking, pod) = (link.clone(), uid(1));
    let carried = async move { asking.carry(&pod, info(), netns).await };
    let play = async {
        tokio::task::yield_now().await;
        let number = first.number;
        drop(first);
        link.leave(number);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut second = Proxy::join(&link);
        for _ in 0..10 {
            second.step(&link);
            tokio::task::yield_now().await;
        }
        second.carries.len()
    };
    let (carried, known) = tokio::join!(carried, play);
    assert_eq!((carried, known), (Ok(()), 1));
}

// K14
#[tokio::test(start_paused = true)]
async fn a_pod_that_proxies_went_silent_about_is_left_out_of_snapshots_and_asked_for_rarely() {
    let (link, [netns, other]) = (Link::new(), namespaces());
    link.expect(uid(1), member(&netns));
    link.expect(uid(2), member(&other));
    link.went_silent_about(&uid(1));
    let mut proxy = Proxy::join(&link);
    let told: Vec<_> = proxy.snapshot.iter().map(|job| job.request.clone()).collect();
    assert!(matches!(&told[..], [Request::Keep { .. }, Request::Add { .. }]), "{told:?}");
    while proxy.step(&link) {}
    assert!(matches!(link.ask(&uid(1), &member(&netns)), Ok(Asked::Waiting(_))), "once is forgiven");
    link.went_silent_about(&uid(1));
    assert!(matches!(link.ask(&uid(1), &member(&netns)), Err(CarryError::Rests)));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(matches!(link.ask(&uid(1), &member(&netns)), Ok(Asked::Waiting(_))));
    while proxy.step(&link) {}
    assert!(link.carries(&uid(1), netns.id()) && !link.0.lock().suspects.has(&uid(1)));
}
