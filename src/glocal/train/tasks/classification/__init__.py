"""Which class a picture is of."""
