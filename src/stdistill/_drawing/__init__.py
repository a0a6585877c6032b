"""What pictures share: axes, colours, legends, the view of a slide."""
