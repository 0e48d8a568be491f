//! What can happen to a host: its cable, a link that carries nothing or little, its power, a disk that is small, a disk that fills.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::host::{Host, User};
use crate::process::signal_pid;

/// A file that takes the room of others.
const FILLER: &str = "filler";

impl Host {
    /// Takes the host's cable out, or puts it back: nothing is refused, frames just vanish.
    ///
    /// # Errors
    /// As of iproute2.
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.lab.in_switch(&["ip", "link", "set", &self.port, if up { "up" } else { "down" }])
    }

    /// Makes the switch swallow all frames of this host, or carry them again. The host's own end stays up: it sees nothing of it.
    ///
    /// # Errors
    /// As of iproute2.
    pub fn set_blackhole(&self, is_black: bool) -> Result<()> {
        let master: &[&str] = if is_black { &["nomaster"] } else { &["master", "br0"] };
        self.lab.in_switch(&[&["ip", "link", "set", &self.port], master].concat())
    }

    /// Lets the link carry so many kilobits a second each way. What is more waits, up to `queue_ms` of it.
    ///
    /// # Errors
    /// As of iproute2, or a kernel without the token bucket filter.
    pub fn slow_link(&self, kbit: u32, queue_ms: u32) -> Result<()> {
        let (rate, latency) = (format!("{kbit}kbit"), format!("{queue_ms}ms"));
        let limits = ["root", "tbf", "rate", &rate, "burst", "16kb", "latency", &latency];
        let add = |device| [&["tc", "qdisc", "add", "dev", device], &limits[..]].concat();
        self.lab.in_switch(&add(&self.port))?;
        let pid = self.pid.to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "-n"]).args(add("eth0")).status()?;
        ensure!(status.success(), "slow down eth0: {status}");
        Ok(())
    }

    /// Ends all processes of the host at once, as pulling its plug would.
    ///
    /// # Errors
    /// It is gone already.
    pub fn crash(&mut self) -> Result<()> {
        signal_pid(self.pid, "KILL")?;
        self.unshare.wait()?;
        Ok(())
    }

    /// Gives a directory a disk of its own, of so many megabytes.
    ///
    /// # Errors
    /// As of mount.
    pub fn small_disk(&self, directory: &str, mb: u32, owner: User) -> Result<()> {
        let options = format!("size={mb}m,mode=755");
        self.exec(User::Root, &["mount", "-t", "tmpfs", "-o", &options, "tmpfs", directory], &[])?
            .success()?;
        self.own(directory, owner)
    }

    /// Fills the disk of a directory but for so many kilobytes.
    ///
    /// # Errors
    /// As of the file system.
    pub fn fill_disk(&self, directory: &str, but_kb: u64) -> Result<()> {
        let script = "free() { df -Pk \"$1\" | awk 'END { print $4 }'; }
            count=$(($(free \"$1\") - $2))
            # The last block may find no room.
            dd if=/dev/zero of=\"$1/$3\" bs=1024 count=$count conv=notrunc oflag=append || :
            [ $(free \"$1\") -le $(($2 + 64)) ]";
        let but = but_kb.to_string();
        self.exec(User::Root, &["sh", "-euc", script, "fill", directory, &but, FILLER], &[])?.success()?;
        Ok(())
    }

    /// Gives back what [`Host::fill_disk`] took.
    ///
    /// # Errors
    /// As of the file system.
    pub fn free_disk(&self, directory: &str) -> Result<()> {
        self.exec(User::Root, &["rm", "-f", &format!("{directory}/{FILLER}")], &[])?.success()?;
        Ok(())
    }
}
