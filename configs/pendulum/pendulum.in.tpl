length = {{ length:.10e }}
damping = {{ damping }}
angle_0 = {{ angle_0 }}
