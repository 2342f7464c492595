"""Reading and writing files; the only place that touches storage formats shared by sources."""
