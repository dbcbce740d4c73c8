"""What stops that were watched say of the settings that a command needs."""
