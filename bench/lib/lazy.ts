/** Made when first asked for: a resumed bench must not build what every case of it has been measured with already. */
export class Lazy<T extends { destroy(): void }> {
  private readonly make: () => T | Promise<T>;
  private made?: Promise<T>;

  constructor(make: () => T | Promise<T>) {
    this.make = make;
  }

  get(): Promise<T> {
    this.made ??= Promise.resolve(this.make());
    return this.made;
  }

  async destroy(): Promise<void> {
    const { made } = this;
    this.made = undefined;
    if (made) (await made).destroy();
  }
}
