"""How the modules of encoders are built, by the package that knows them."""
