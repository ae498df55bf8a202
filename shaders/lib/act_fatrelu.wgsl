// FATReLU: values at or below the layer's threshold become zero.
fn activate(v: f32) -> f32 { return select(0.0, v, v > params.fat); }
