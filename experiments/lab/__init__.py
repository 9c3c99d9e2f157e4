"""The fusion lab: a grid of fusions by seeds, its cells, their comparison, and the page that shows it."""
