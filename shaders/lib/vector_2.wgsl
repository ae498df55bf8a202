alias Vector = vec2<u32>;
