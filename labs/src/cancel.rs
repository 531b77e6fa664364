//! Ctrl-C and SIGTERM: they set a mark that every wait of the engine looks at, so that what was
//! begun is taken down in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::LabError;

/// Whether the lab is to stop.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Set by the first SIGINT or SIGTERM from now on; later ones are ignored, so that an impatient
    /// second Ctrl-C does not leave half a lab.
    pub(crate) fn on_signals() -> Result<Cancel, LabError> {
        let cancel = Cancel::never();
        let mark = cancel.clone();
        let failed = |e: std::io::Error| {
            LabError::failed("lab", format!("signals: {e}"), "run the command again")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt()).map_err(failed)?,
                signal(SignalKind::terminate()).map_err(failed)?,
            )
        };
        // Ends with the process: the engine is all that this process does.
        std::thread::Builder::new()
            .name("lab-signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                        }
                        mark.0.store(true, Ordering::Relaxed);
                    }
                });
            })
            .map_err(failed)?;
        Ok(cancel)
    }

    /// Never set from outside.
    pub(crate) fn never() -> Cancel {
        Cancel(Arc::new(AtomicBool::new(false)))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
