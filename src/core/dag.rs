//! The graph of tasks: unknown names, cycles, drawing.
