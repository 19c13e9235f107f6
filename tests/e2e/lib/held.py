"""Effects of a VM's life held right before or right after, where holdfastd was built so that a test can
(src/control/lifecycle/effect_hook.h)."""

import os

from .process import wait_until


class Hold:
    """Armed from the beginning: who comes to `moment` ("ACT EFFECT before" or "… after") of the VM at the site stays there."""

    def __init__(self, site, vm_id, moment):
        self.moment, self.site = moment, site
        directory = site.state / "daemon/effect-hook"
        if not directory.exists():
            directory.mkdir()
            directory.chmod(0o777)
        self._armed, self._reached = directory / vm_id, directory / f"{vm_id}.reached"
        whole = directory / "written"
        whole.write_text(moment, encoding="ascii")
        whole.chmod(0o644)
        os.rename(whole, self._armed)

    def reached(self):
        return self._reached.exists()

    def wait(self, limit=45):
        wait_until(self.reached, limit, f"{self.site.name} comes to {self.moment}", interval=0.002)

    def release(self):
        """Who is held goes on. What was armed for the VM since then stays armed."""
        self._reached.unlink(missing_ok=True)

    def drop(self):
        """Nobody is held any more, and nobody will be."""
        self._armed.unlink(missing_ok=True)
        self._reached.unlink(missing_ok=True)
