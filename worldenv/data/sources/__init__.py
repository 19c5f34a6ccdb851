"""Where clips come from: simulators, Gymnasium environments."""
