//! Between two steps, another deployment of the same processor takes over: state, positions, timers and everything that
//! is under way stay as they are, only the code and what belongs to it changes.

use super::TaskSetting;
use super::driver::Failure;
use super::errors::Trouble;
use super::shadow::Shadow;
use super::surroundings::Surroundings;
use super::takeover::{Instance, host_limits, outputs, revision};
use std::sync::Arc;

impl<S: Surroundings> Instance<S> {
    /// Goes on with `setting`, whose `init` said yes before it was committed.
    ///
    /// # Errors
    /// Its module can't be loaded here, or an output is gone; the former code does not run either.
    pub(super) fn swap(&mut self, setting: &Arc<TaskSetting>) -> Result<(), Failure> {
        let processor = &setting.processor;
        let outputs = outputs(setting)?;
        let guest = self.surroundings.load_guest(setting, Arc::clone(&self.host))?;
        {
            let mut host = self.host.lock();
            host.adopt(outputs, host_limits(&processor.limits));
            let limits = *host.overlay().limits();
            let state_bytes_max = processor.limits.state_bytes_max;
            host.overlay_mut().set_limits(headwater_state::OverlayLimits { state_bytes_max, ..limits });
        }
        self.task.set_revision(revision(processor));
        self.guest = guest;
        self.shadow = Shadow::load(self.surroundings.as_ref(), setting, &self.host);
        self.cpu_us_counted = 0;
        self.trouble = Trouble::new(processor.limits.records_per_step_max as usize);
        self.setting = Arc::clone(setting);
        self.idle = false;
        Ok(())
    }
}
