//! What a request does to the running relay. Owns: that a request is done wholly or not at all. Never:
//! reads or answers; the loop does.

use std::path::Path;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{Relay, failed};
use crate::error::LabError;
use crate::relay::capture::Capture;
use crate::relay::control::{EndStats, LinkStats, Reply, Request};
use crate::relay::fabric::PortId;
use crate::relay::port::Port;
use crate::relay::spec::LinkSpec;

impl Relay {
    pub(super) fn act(&mut self, client: usize, request: Request) -> Reply {
        self.uncouple(&request);
        let now = self.clock.now();
        self.fabric.advance(now, &mut self.out);
        let fabric = &mut self.fabric;
        let done = match request {
            Request::Set {
                link,
                direction,
                impairment,
            } => fabric.set(now, &link, direction.as_ref(), &impairment),
            Request::Cut { link, direction } => fabric.cut(now, &link, direction.as_ref(), true),
            Request::Heal { link, direction } => fabric.cut(now, &link, direction.as_ref(), false),
            Request::Stats { link } => {
                return self.stats(link).map_or_else(Reply::Error, Reply::Stats);
            }
            Request::Capture { link, file, append } => self.capture(&link, file.as_deref(), append),
            Request::Add { link } => self.add(&link).map_err(|error| error.to_string()),
            Request::Remove { link } => self.remove(&link),
            Request::Leave { node } => self.leave(&node),
            Request::Freeze => self.freeze(client),
            Request::Save { file } => self.save(&file),
            Request::Go => {
                self.go();
                Ok(())
            }
            Request::Stop => {
                self.stopped = true;
                Ok(())
            }
        };
        self.couple();
        done.map_or_else(Reply::Error, |()| Reply::Done)
    }

    /// All ends open, or none and no link.
    pub(super) fn add(&mut self, link: &LinkSpec) -> Result<(), LabError> {
        let refused = |cause: String| LabError::Refused {
            subject: "relay".to_owned(),
            cause,
            help: "change the link in the lab's file".to_owned(),
        };
        link.check().map_err(refused)?;
        if self.fabric.names().any(|name| name == link.name) {
            return Err(refused(format!("link {} is there already", link.name)));
        }
        let ports = link.ends.iter().map(|end| Port::open(&end.port));
        let ports = ports.collect::<Result<Vec<Port>, LabError>>()?;
        let ids = self.fabric.add(self.clock.now(), link).map_err(refused)?;
        self.links.push(link.clone());
        for (id, port) in ids.into_iter().zip(ports) {
            self.plug(id, port)?;
        }
        Ok(())
    }

    /// Listens to an end; its number is the next one, or that of one that is not there.
    pub(super) fn plug(&mut self, id: PortId, port: Port) -> Result<(), LabError> {
        let read = EpollEvent::new(EpollFlags::EPOLLIN, id.0 as u64);
        self.epoll.add(port.end().reader(), read).map_err(failed)?;
        if let Some(writer) = port.end().writer() {
            // By edge: a socket with room would else be an event at all times.
            let room = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            let event = EpollEvent::new(room, id.0 as u64);
            self.epoll.add(writer, event).map_err(failed)?;
        }
        while self.out.ports.len() <= id.0 {
            self.out.ports.push(None);
        }
        self.out.ports[id.0] = Some(port);
        Ok(())
    }

    fn remove(&mut self, link: &str) -> Result<(), String> {
        self.capture(link, None, false)?;
        self.links.retain(|one| one.name != link);
        for id in self.fabric.remove(link)? {
            // Closing takes a descriptor out of epoll.
            self.out.ports[id.0] = None;
        }
        Ok(())
    }

    fn leave(&mut self, node: &str) -> Result<(), String> {
        let links: Vec<String> = self.fabric.names().map(str::to_owned).collect();
        for link in links {
            for (id, _) in self
                .fabric
                .ports(&link)?
                .iter()
                .filter(|(_, at)| at == node)
            {
                // Closing takes a descriptor out of epoll.
                self.out.ports[id.0] = None;
            }
        }
        Ok(())
    }

    fn capture(&mut self, link: &str, file: Option<&Path>, append: bool) -> Result<(), String> {
        let (ids, nodes): (Vec<PortId>, Vec<String>) = self.fabric.ports(link)?.into_iter().unzip();
        let running = self.out.captures.iter().flatten();
        if let Some(file) = file
            && running.map(Capture::stats).any(|stats| stats.file == file)
        {
            return Err(format!("a capture to {} runs already", file.display()));
        }
        let started = file
            .map(|file| Capture::start(file, append, &nodes))
            .transpose()?;
        for id in &ids {
            if let Some(port) = &mut self.out.ports[id.0]
                && let Some((slot, _)) = port.watched.take()
                && let Some(mut ended) = self.out.captures[slot].take()
            {
                ended.flush();
            }
        }
        let Some(capture) = started else {
            return Ok(());
        };
        let free = self.out.captures.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.out.captures.len());
        if slot == self.out.captures.len() {
            self.out.captures.push(None);
        }
        self.out.captures[slot] = Some(capture);
        for (interface, id) in ids.iter().enumerate() {
            if let Some(port) = &mut self.out.ports[id.0] {
                port.watched = Some((slot, interface as u32));
            }
        }
        Ok(())
    }

    fn stats(&mut self, link: Option<String>) -> Result<Vec<LinkStats>, String> {
        let names = match link {
            Some(link) => vec![link],
            None => self.fabric.names().map(str::to_owned).collect(),
        };
        let stats = names.into_iter().map(|link| {
            let mut capture = None;
            let mut ends = Vec::new();
            for (id, node) in self.fabric.ports(&link)? {
                let port = self.out.ports[id.0].as_ref();
                ends.push(EndStats {
                    node,
                    refused: port.map_or(0, Port::refused),
                });
                if let Some((slot, _)) = port.and_then(|port| port.watched)
                    && capture.is_none()
                    && let Some(open) = &mut self.out.captures[slot]
                {
                    // Who asks what was captured may read the file next.
                    open.flush();
                    capture = Some(open.stats());
                }
            }
            Ok(LinkStats {
                lanes: self.fabric.stats(&link)?,
                link,
                ends,
                capture,
            })
        });
        stats.collect()
    }
}
