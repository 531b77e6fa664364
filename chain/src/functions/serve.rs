//! Answers with its own name, so that a lab needs no server from the distribution.
//!
//! Its name is the host's and a number that no other process has: two tenants may well have servers of one name, port
//! and address, and an answer must tell them apart.
//! TCP: the name and a newline at once, then everything comes back as it was sent. UDP: the name and a newline before
//! the datagram's own bytes. ICMP is answered by the kernel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stop::Stop;
use super::{FunctionError, hostname, system};
use crate::traffic::{Protocol, Traffic};

/// Connections at a time over all ports; one more is closed at once. A thread each, so this bounds
/// memory (stacks of 64 kB).
const CONNECTIONS: usize = 512;
const STACK: usize = 64 << 10;

/// What is served.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    /// TCP and UDP, one port each.
    pub traffic: Vec<Traffic>,
}

enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Both families where there is IPv6, else IPv4.
fn open<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let at = |ip: IpAddr| bind(SocketAddr::new(ip, port));
    match at(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            at(Ipv4Addr::UNSPECIFIED.into())
        }
        other => other,
    }
}

fn listen(traffic: Traffic) -> Result<Listener, FunctionError> {
    let unsuitable = |cause| FunctionError::Unsuitable {
        function: "serve",
        traffic,
        cause,
    };
    if traffic.protocol() == Protocol::Icmp {
        return Err(unsuitable("the kernel answers ICMP by itself"));
    }
    let port = traffic
        .port()
        .ok_or_else(|| unsuitable("name one TCP or UDP port"))?;
    let opened = match traffic.protocol() {
        Protocol::Tcp => open(port, TcpListener::bind).map(Listener::Tcp),
        _ => open(port, UdpSocket::bind).map(|socket| {
            super::buffers::enlarge(&socket);
            Listener::Udp(socket)
        }),
    };
    opened.map_err(|source| FunctionError::Serve { traffic, source })
}

/// 64 random bits in hexadecimal.
fn own_number() -> Result<String, FunctionError> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(system("read /dev/urandom"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Serves until it is told to stop. Connections end with the process.
pub(super) fn run(args: &ServeArgs) -> Result<(), FunctionError> {
    let stop = Stop::install()?;
    let name: Arc<str> = format!("{} {}\n", hostname(), own_number()?).into();
    let open = Arc::new(AtomicUsize::new(0));
    let listeners: Vec<Listener> = args
        .traffic
        .iter()
        .map(|t| listen(*t))
        .collect::<Result<_, _>>()?;
    for (listener, traffic) in listeners.into_iter().zip(&args.traffic) {
        let (name, open) = (Arc::clone(&name), Arc::clone(&open));
        eprintln!("serve: {traffic} answers {}", name.trim_end());
        let work = move || match listener {
            Listener::Tcp(listener) => accept(&listener, &name, &open),
            Listener::Udp(socket) => answer(&socket, &name),
        };
        let made = thread::Builder::new().name(traffic.to_string()).spawn(work);
        made.map_err(system("start a thread"))?;
    }
    let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(system("wait for a signal")(error.into())),
        }
    }
}

fn accept(listener: &TcpListener, name: &Arc<str>, open: &Arc<AtomicUsize>) {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // The connection was given up before it was taken, or descriptors are short.
                eprintln!("serve: accept: {error}");
                thread::yield_now();
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (name, count) = (Arc::clone(name), Arc::clone(open));
        let work = move || {
            // A peer that goes away ends its own connection and nothing else.
            let _ = echo(stream, &name);
            count.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new()
            .stack_size(STACK)
            .spawn(work)
            .is_err()
        {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn echo(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(name.as_bytes())?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn answer(socket: &UdpSocket, name: &str) {
    let mut buffer = vec![0; name.len() + (64 << 10)];
    let head = name.len();
    buffer[..head].copy_from_slice(name.as_bytes());
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer[head..]) else {
            continue;
        };
        let whole = socket.send_to(&buffer[..head + length], peer);
        if whole.is_err_and(|e| e.raw_os_error() == Some(libc::EMSGSIZE)) {
            let _ = socket.send_to(&buffer[..head], peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_one_name_are_told_apart() {
        assert_ne!(own_number().unwrap(), own_number().unwrap());
    }
}
