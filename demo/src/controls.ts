import { element } from './page.js';
import { DEFAULTS, type Settings } from './settings.js';

/** The form of settings: what it says, and how it is told. */
export class Controls {
  private readonly form = element<HTMLFormElement>('settings');
  private readonly fields = {
    strategy: element<HTMLSelectElement>('strategy'),
    mode: element<HTMLSelectElement>('mode'),
    dtype: element<HTMLSelectElement>('dtype'),
    budget: element<HTMLSelectElement>('budget'),
    sparsity: element<HTMLInputElement>('sparsity'),
  };

  constructor(onChange: (settings: Settings) => void) {
    // A browser may have kept what the form said before a reload.
    this.show(DEFAULTS);
    this.form.addEventListener('input', () => this.dress());
    this.form.addEventListener('change', () => {
      this.dress();
      onChange(this.read());
    });
    this.form.addEventListener('submit', (event) => event.preventDefault());
  }

  read(): Settings {
    const { strategy, mode, dtype, budget, sparsity } = this.fields;
    return {
      strategy: strategy.value as Settings['strategy'],
      mode: mode.value as Settings['mode'],
      dtype: dtype.value as Settings['dtype'],
      budget: Number(budget.value),
      sparsity: Number(sparsity.value),
    };
  }

  show(settings: Settings): void {
    for (const name of Object.keys(this.fields) as (keyof Settings)[])
      this.fields[name].value = String(settings[name]);
    this.dress();
  }

  /** `dtype`: the only one that a converted model has; null for any. */
  only(dtype: Settings['dtype'] | null): void {
    const field = this.fields.dtype;
    field.disabled = dtype !== null;
    if (dtype) field.value = dtype;
  }

  /** What can be had together. */
  private dress(): void {
    const { strategy, mode, budget, sparsity } = this.fields;
    const all = budget.value === '100';
    const indexed = [...strategy.options].find(({ value }) => value === 'indexed');
    // It reads rows where they lie, on the device: under a budget they are not there.
    if (indexed) indexed.disabled = !all;
    if (!all && strategy.value === 'indexed') strategy.value = 'paired';
    element('sparsity-label').hidden = mode.value !== 'threshold';
    element('sparsity-now').textContent = `${sparsity.value} %`;
  }
}
