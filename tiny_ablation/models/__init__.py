"""From a config to a network whose parts have names: one loader per kind of source, one map of hook points."""
