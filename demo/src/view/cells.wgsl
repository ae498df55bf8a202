// One box a slot, drawn as an instance of 36 vertices. state: as age.wgsl leaves it.
struct Scene {
  matrix: mat4x4f,
  empty: vec4f,
  evicted: vec4f,
  old: vec4f,
  fresh: vec4f,
  flash: vec4f,
  chosen: vec4f,
  columns: u32,
  slots: u32,    // shown of each layer
  capacity: u32, // states of each layer
  token: u32,
  time: f32,
  motion: f32,   // 0: nothing rises
  chosen_layer: u32,
  chosen_slot: u32,
}
@group(0) @binding(0) var<uniform> scene: Scene;
@group(0) @binding(1) var<storage, read> state: array<vec4u>;
@group(0) @binding(2) var<storage, read> origins: array<vec2f>; // per layer: middle of its first cell

struct Corner {
  @builtin(position) position: vec4f,
  @location(0) colour: vec3f,
}

const SIZE = 0.84;

@vertex
fn vertex(@builtin(vertex_index) v: u32, @builtin(instance_index) instance: u32) -> Corner {
  let layer = instance / scene.slots;
  let slot = instance % scene.slots;
  let cell = state[layer * scene.capacity + slot];
  let seen = cell.x != 0u;
  // A packed slab's rows at and above m are those that were not used by the last step.
  let used = seen && cell.z == scene.token;
  let age = f32(scene.token - cell.y);
  let since = scene.time - bitcast<f32>(cell.w);
  let flash = select(0.0, exp(-3.0 * max(since, 0.0)), seen && since < 3.0);
  var colour = mix(scene.fresh.rgb, scene.old.rgb, clamp(log2(1.0 + age) / 6.0, 0.0, 1.0));
  colour = select(scene.evicted.rgb, colour, used);
  colour = mix(select(scene.empty.rgb, colour, seen), scene.flash.rgb, flash);
  var height = select(0.06, select(0.16, 0.5, used), seen) + 1.1 * flash * scene.motion;
  if (layer == scene.chosen_layer && slot == scene.chosen_slot) {
    colour = scene.chosen.rgb;
    height += 0.6;
  }
  // Faces in the order +x -x +y -y +z -z, two triangles each.
  let face = v / 6u;
  let corners = array<vec2f, 6>(vec2f(-1, -1), vec2f(1, -1), vec2f(1, 1), vec2f(-1, -1), vec2f(1, 1), vec2f(-1, 1));
  let uv = corners[v % 6u];
  let side = select(-1.0, 1.0, face % 2u == 0u);
  let axis = face / 2u;
  let corner = select(select(vec3f(uv, side), vec3f(uv.x, side, uv.y), axis == 1u), vec3f(side, uv.x, uv.y), axis == 0u);
  let normal = select(select(vec3f(0, 0, side), vec3f(0, side, 0), axis == 1u), vec3f(side, 0, 0), axis == 0u);
  let at = origins[layer] + vec2f(f32(slot % scene.columns), f32(slot / scene.columns));
  let place = vec3f(at.x, 0, at.y) + vec3f(0.5 * SIZE * corner.x, height * (0.5 + 0.5 * corner.y), 0.5 * SIZE * corner.z);
  let light = 0.62 + 0.38 * max(0.0, dot(normal, normalize(vec3f(0.35, 0.85, 0.45))));
  return Corner(scene.matrix * vec4f(place, 1), colour * light);
}

@fragment
fn fragment(in: Corner) -> @location(0) vec4f {
  return vec4f(in.colour, 1);
}
