alias Vector = vec4<u32>;
