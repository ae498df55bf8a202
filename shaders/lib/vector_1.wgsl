alias Vector = u32;
