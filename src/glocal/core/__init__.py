"""Values: frozen, validated when made, no I/O."""
