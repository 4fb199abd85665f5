"""What the code behind a result does, as a hash that knows neither names of modules nor where they lie."""
