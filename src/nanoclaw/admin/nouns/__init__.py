"""The table of everything `ncl` can do: data alone, quick to import."""
