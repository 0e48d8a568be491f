derivation { name = "single"; system = builtins.currentSystem; builder = "/bin/sh"; }
