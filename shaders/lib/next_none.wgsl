fn next(at: u32, c: u32, quad: vec4<f32>) {}
