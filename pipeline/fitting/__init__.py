"""One Gauss-Newton fit of the ICT head to one or more photos of a person."""
