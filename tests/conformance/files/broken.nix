this is { no Nix
