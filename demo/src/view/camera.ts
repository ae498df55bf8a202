import { mat4, vec3, vec4 } from 'gl-matrix';

const FIELD = Math.PI / 5;
/** Of the picture, what the plates fill: names and what stands up from the floor need room. */
const MARGIN = 0.86;

/** Looks at the middle of the floor from a side and above. */
export class Camera {
  /** Radians: around the vertical, and above the floor. */
  yaw = -0.3;
  pitch = 0.9;
  /** How near: 1 shows all. */
  zoom = 1;
  private readonly matrix = mat4.create();

  orbit(yaw: number, pitch: number): void {
    this.yaw += yaw;
    this.pitch = Math.min(Math.PI / 2 - 0.01, Math.max(0.15, this.pitch + pitch));
  }

  zoomBy(factor: number): void {
    this.zoom = Math.min(12, Math.max(0.5, this.zoom * factor));
  }

  reset(): void {
    const { yaw, pitch, zoom } = new Camera();
    Object.assign(this, { yaw, pitch, zoom });
  }

  /** From the floor, `width` by `depth`, to clip space, for a picture of this aspect: at zoom 1 all of it is seen. */
  viewProjection(width: number, depth: number, aspect: number): mat4 {
    const distance = 1.7 * Math.hypot(width, depth);
    const around = Math.cos(this.pitch) * distance;
    const eye = vec3.fromValues(
      around * Math.sin(this.yaw),
      distance * Math.sin(this.pitch),
      around * Math.cos(this.yaw),
    );
    const view = mat4.lookAt(mat4.create(), eye, [0, 0, 0], [0, 1, 0]);
    const projection = mat4.perspectiveZO(mat4.create(), FIELD, aspect, distance / 20, distance * 3);
    mat4.multiply(this.matrix, projection, view);
    // Then the picture itself is moved and enlarged, so that the plates fill it.
    const [left, right, low, high] = this.bounds(width, depth);
    const scale = (2 * MARGIN * this.zoom) / Math.max(right - left, high - low);
    const fit = mat4.fromScaling(mat4.create(), [scale, scale, 1]);
    mat4.translate(fit, fit, [-(left + right) / 2, -(low + high) / 2, 0]);
    mat4.multiply(this.matrix, fit, this.matrix);
    return this.matrix;
  }

  /** Where the ray through a point of the picture (-1 to 1, y up) meets the height y; null when it does not. */
  floorAt(x: number, y: number, height = 0): [number, number] | null {
    const inverse = mat4.invert(mat4.create(), this.matrix);
    if (!inverse) return null;
    const at = (depth: number): vec3 => {
      const point = vec4.transformMat4(vec4.create(), [x, y, depth, 1], inverse);
      return vec3.fromValues(point[0] / point[3], point[1] / point[3], point[2] / point[3]);
    };
    const from = at(0);
    const towards = vec3.subtract(vec3.create(), at(1), from);
    const t = (height - from[1]) / towards[1];
    if (!(t > 0)) return null;
    return [from[0] + t * towards[0], from[2] + t * towards[2]];
  }

  /** Where a point of the floor is in the picture, -1 to 1. */
  project(x: number, z: number): [number, number] {
    const point = vec4.transformMat4(vec4.create(), [x, 0, z, 1], this.matrix);
    return [point[0] / point[3], point[1] / point[3]];
  }

  /** The least and the most that the corners have of x, then of y, in the picture. */
  private bounds(width: number, depth: number): [number, number, number, number] {
    const corners = [-0.5, 0.5].flatMap((x) => [-0.5, 0.5].map((z) => this.project(x * width, z * depth)));
    const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
    return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  }
}
