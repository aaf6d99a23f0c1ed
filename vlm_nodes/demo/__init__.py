"""The demonstration: nodes started as on a robot, asked, and their answers shown."""
