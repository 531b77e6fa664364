//! Observations as lines of JSON, with the names of the API, and back.

use serde_json::{Value, json};
use weft_agent::proto::{Observation, TraceReply};

macro_rules! fields {
    ($($field:ident),* $(,)?) => {
        /// One observation.
        pub fn observation(o: &Observation) -> Value {
            let mut map = serde_json::Map::new();
            $(map.insert(stringify!($field).to_owned(), json!(o.$field));)*
            Value::Object(map)
        }

        fn fill(o: &mut Observation, value: &Value) -> Result<(), serde_json::Error> {
            $(
                if let Some(found) = value.get(stringify!($field)) {
                    o.$field = serde_json::from_value(found.clone())?;
                }
            )*
            Ok(())
        }
    };
}

fields!(
    node, time, identity, point, reason, vni, network, src, dst, proto, sport, dport, endpoint,
    port, steer, position, chain, hop, instance, direction, peer, len, seq, payload, tcp_flags,
    ip_id, icmp_type, interface, lost,
);

/// The first line: who listens.
pub fn listening(reply: &TraceReply) -> Value {
    json!({ "listening": reply.listening, "problems": reply.problems })
}

/// Reads a line back; `None` for one that is no observation.
pub fn parse(line: &str) -> Result<Option<Observation>, serde_json::Error> {
    let value: Value = serde_json::from_str(line)?;
    if value.get("point").is_none() {
        return Ok(None);
    }
    let mut observation = Observation::default();
    fill(&mut observation, &value)?;
    Ok(Some(observation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_survives_the_way_out_and_back() {
        let there = Observation {
            node: "n1".into(),
            time: u64::MAX,
            identity: 0x0123_4567_89ab_cdef,
            point: "encap".into(),
            vni: 7,
            src: "10.10.0.1".into(),
            dport: 80,
            peer: "n2".into(),
            ..Observation::default()
        };
        let line = observation(&there).to_string();
        assert_eq!(parse(&line).unwrap(), Some(there));
        assert_eq!(parse(r#"{"listening": ["n1"]}"#).unwrap(), None);
        assert!(parse("{").is_err());
    }
}
