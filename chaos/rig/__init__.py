"""What every part stands on: the server, disks that can be cut, clients, and the verdict."""
