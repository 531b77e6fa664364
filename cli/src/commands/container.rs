//! Containers: `weft run`, `ps`, `logs`, `exec`, `stop`, `rm`, `inspect`.

pub mod wait;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use clap::{Args, ValueEnum};
use tokio::io::AsyncReadExt;
use tokio_stream::wrappers::ReceiverStream;
use weft_agent::overlay::documents::{Resources, Restart};
use weft_agent::overlay::publish::Publish;
use weft_agent::overlay::{ContainerRef, NetworkRef, NodeName, site};
use weft_agent::proto::{ExecInput, ExecStart, LogsRequest, Object, RemoveRequest};

use super::apply::{object, print_changes, print_done};
use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;

/// `weft run`
#[derive(Debug, Args)]
pub struct Run {
    /// TENANT/NAME
    name: ContainerRef,
    /// TENANT/NETWORK, or TENANT/NETWORK:ADDRESS; may be repeated.
    #[arg(long = "net", value_parser = attachment)]
    networks: Vec<site::Attachment>,
    /// KEY=VALUE; may be repeated.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// NAME=VALUE of the environment; may be repeated.
    #[arg(long = "env", short = 'e', value_parser = label)]
    env: Vec<(String, String)>,
    /// A capability that it keeps, e.g. NET_RAW; may be repeated.
    #[arg(long = "cap")]
    capabilities: Vec<String>,
    /// CPUs, e.g. 0.5.
    #[arg(long)]
    cpus: Option<f64>,
    /// Memory, e.g. 256M.
    #[arg(long, value_parser = bytes)]
    memory: Option<u64>,
    /// Processes and threads.
    #[arg(long)]
    pids: Option<u64>,
    /// NODE-PORT:tcp/PORT or NODE-PORT:udp/PORT: a port of its node that leads to one of its own; may be repeated.
    #[arg(long)]
    publish: Vec<Publish>,
    /// When it is started again.
    #[arg(long, value_enum, default_value = "always")]
    restart: RestartArg,
    /// The node it runs on; without it, the one with the fewest containers.
    #[arg(long)]
    node: Option<NodeName>,
    /// Return as soon as it is written down, not when it runs.
    #[arg(long)]
    no_wait: bool,
    /// `host`: the machine's own root file system, read-only.
    image: String,
    /// What it runs.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RestartArg {
    No,
    OnFailure,
    Always,
}

/// `weft ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Only this tenant's.
    #[arg(value_parser = super::named::tenant)]
    tenant: Option<String>,
}

/// `weft logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// TENANT/NAME
    name: ContainerRef,
    /// Go on as more comes.
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, default_value_t = 0)]
    tail: u32,
}

/// `weft exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// TENANT/NAME
    name: ContainerRef,
    /// NAME=VALUE of the environment; may be repeated.
    #[arg(long = "env", short = 'e')]
    env: Vec<String>,
    /// Pass standard input on.
    #[arg(long, short)]
    interactive: bool,
    /// What to run.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A command about one container.
#[derive(Debug, Args)]
pub struct Named {
    /// TENANT/NAME
    name: ContainerRef,
}

/// `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn attachment(text: &str) -> Result<site::Attachment, String> {
    let Some((network, address)) = text.split_once(':') else {
        return text
            .parse()
            .map(site::Attachment::Name)
            .map_err(|e| e.to_string());
    };
    let network: NetworkRef = network.parse().map_err(|e| format!("{e}"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("{address:?} is not an address"))?;
    Ok(site::Attachment::Full(site::AttachmentTable {
        network,
        address: Some(address),
        interface: None,
        hop: false,
    }))
}

/// `256M`, `1G`, or plain bytes; powers of 1,024.
fn bytes(text: &str) -> Result<u64, String> {
    let bad = || "write it as 256M, 1G or a number of bytes".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// Runs `weft run`.
pub fn run(host: &str, json: bool, run: Run) -> Done {
    let (name, no_wait) = (run.name.clone(), run.no_wait);
    let container = site::Container {
        name: run.name,
        networks: run.networks,
        node: run.node,
        labels: run.labels.into_iter().collect::<BTreeMap<_, _>>(),
        image: run.image,
        command: run.command,
        env: run.env.into_iter().collect::<BTreeMap<_, _>>(),
        capabilities: run.capabilities,
        resources: Resources {
            cpus: run.cpus,
            memory: run.memory,
            pids: run.pids,
        },
        publish: run.publish,
        restart: match run.restart {
            RestartArg::No => Restart::No,
            RestartArg::OnFailure => Restart::OnFailure,
            RestartArg::Always => Restart::Always,
        },
    };
    let object = object("container", &name.to_string(), &container)?;
    with_agent(host, async |mut agent| {
        print_changes(json, &agent.apply(vec![object], false).await?);
        if !no_wait {
            wait::until_started(&mut agent, &name).await?;
        }
        Ok(0)
    })
}

/// Runs `weft ps`.
pub fn ps(host: &str, json: bool, ps: Ps) -> Done {
    with_agent(host, async |mut agent| {
        let mut list = agent
            .list("container", ps.tenant.as_deref().unwrap_or(""), "")
            .await?;
        if !json {
            list.iter_mut().for_each(with_exit);
        }
        output::objects(
            json,
            &list,
            [
                ("CONTAINER", "name"),
                ("NODE", "spec.node"),
                ("STATE", "status.state"),
                ("ADDRESSES", "addresses"),
                ("PUBLISHED", "spec.publish"),
                ("IMAGE", "spec.image"),
                ("RESTARTS", "status.restarts"),
                ("MESSAGE", "status.message"),
            ],
        );
        Ok(0)
    })
}

/// For people: `exited 127` says more than `exited`.
fn with_exit(object: &mut Object) {
    let mut value = output::object_json(object);
    let status = &mut value["status"];
    if status["state"] == "exited" && status["exit"].is_number() {
        status["state"] = format!("exited {}", status["exit"]).into();
        object.json = value.to_string();
    }
}

/// Runs `weft inspect`.
pub fn inspect(host: &str, json: bool, named: Named) -> Done {
    with_agent(host, async |mut agent| {
        let list = agent.list("container", "", &named.name.to_string()).await?;
        list.iter()
            .for_each(|object| output::document(json, object));
        Ok(0)
    })
}

/// Runs `weft stop` and `weft rm`.
pub fn remove(host: &str, json: bool, named: Named, stop_only: bool) -> Done {
    with_agent(host, async |mut agent| {
        let request = RemoveRequest {
            kind: "container".into(),
            name: named.name.to_string(),
            force: false,
            stop_only,
        };
        print_done(
            json,
            if stop_only { "stopped" } else { "removed" },
            &agent.remove(request).await?,
        );
        Ok(0)
    })
}

/// Runs `weft logs`.
pub fn logs(host: &str, logs: Logs) -> Done {
    with_agent(host, async |mut agent| {
        let request = LogsRequest {
            container: logs.name.to_string(),
            follow: logs.follow,
            tail: logs.tail,
        };
        let mut stream = agent.logs(request).await?;
        let mut out = std::io::stdout();
        while let Some(chunk) = stream.message().await? {
            write(&mut out, &chunk.data)?;
        }
        Ok(0)
    })
}

/// Runs `weft exec`; its exit code is the command's.
pub fn exec(host: &str, exec: Exec) -> Done {
    with_agent(host, async |mut agent| {
        let start = ExecInput {
            start: Some(ExecStart {
                container: exec.name.to_string(),
                command: exec.command,
                env: exec.env,
            }),
            ..ExecInput::default()
        };
        // Few: standard input waits when the container does not read.
        let (send, input) = tokio::sync::mpsc::channel(4);
        let closed = || Failure::new("exec: the agent went away", "see the node's log");
        send.send(start).await.map_err(|_| closed())?;
        if exec.interactive {
            tokio::spawn(forward(send));
        } else {
            let end = ExecInput {
                stdin_closed: true,
                ..ExecInput::default()
            };
            send.send(end).await.map_err(|_| closed())?;
        }
        let mut stream = agent.exec(ReceiverStream::new(input)).await?;
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        while let Some(output) = stream.message().await? {
            write(&mut out, &output.stdout)?;
            write(&mut err, &output.stderr)?;
            if output.ended {
                return Ok(u8::try_from(output.exit).unwrap_or(1));
            }
        }
        Err(closed())
    })
}

/// Standard input to the container until its end.
async fn forward(send: tokio::sync::mpsc::Sender<ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let input = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => ExecInput {
                stdin_closed: true,
                ..ExecInput::default()
            },
            Ok(n) => ExecInput {
                stdin: buffer[..n].to_vec(),
                ..ExecInput::default()
            },
        };
        let last = input.stdin_closed;
        if send.send(input).await.is_err() || last {
            return;
        }
    }
}

fn write(out: &mut impl Write, data: &[u8]) -> Result<(), Failure> {
    out.write_all(data).and_then(|()| out.flush()).map_err(|e| {
        Failure::new(
            format!("output: cannot be written: {e}"),
            "is the reader gone?",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_attachments_are_read() {
        assert_eq!(bytes("256M"), Ok(256 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        for bad in ["", "M", "1X", "-1", "99999999999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(matches!(
            attachment("red/front"),
            Ok(site::Attachment::Name(_))
        ));
        assert!(matches!(
            attachment("red/front:10.10.4.7"),
            Ok(site::Attachment::Full(_))
        ));
        for bad in ["red", "red/front:x", "Red/front"] {
            assert!(attachment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_exit_code_stands_beside_the_state() {
        let object = |json: &str| Object {
            json: json.to_owned(),
            ..Object::default()
        };
        let state = |json: &str| {
            let mut object = object(json);
            with_exit(&mut object);
            output::object_json(&object)["status"]["state"].clone()
        };
        assert_eq!(
            state(r#"{"status": {"state": "exited", "exit": 127}}"#),
            "exited 127"
        );
        assert_eq!(state(r#"{"status": {"state": "running"}}"#), "running");
    }
}
