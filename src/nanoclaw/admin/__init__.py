"""`ncl`: what operators (and later agents) may ask of a host, one resource a file."""
