import type { DeviceContext, Provenance, Report, SuiteOutcome } from '../../bench/lib/report.js';
import { mlpSuite } from '../../bench/suites/mlp.js';
import { updateSuite } from '../../bench/suites/update.js';
import { traitsOf } from '../../src/gpu/traits.js';
import { deviceTimer } from '../../src/tune/timer.js';
import { VERSION } from '../../src/version.js';
import { openDevice, type PageDevice } from './device.js';
import { clearError, element, showError, showUnsupported } from './page.js';

const SUITES: Readonly<Record<string, (context: DeviceContext) => Promise<SuiteOutcome>>> = {
  update: updateSuite,
  mlp: mlpSuite,
};

/** Set by the build: the commit that it was made from. */
declare const PAIRSLAB_SOURCE: { commit: string | null; dirty: boolean };

const status = element('status');
const progress = element<HTMLProgressElement>('progress');
const checked = (id: string): boolean => element<HTMLInputElement>(id).checked;

/** As in a file of `npm run bench`; what a page cannot know of its machine is what the browser says of itself. */
function provenanceOf(
  { device, name, info }: PageDevice,
  suites: readonly string[],
  quick: boolean,
): Provenance {
  const { vendor, architecture, device: model, description } = info;
  const timer = deviceTimer(device);
  const { kind } = timer;
  timer.destroy();
  return {
    date: new Date().toISOString(),
    version: VERSION,
    ...PAIRSLAB_SOURCE,
    suites,
    adapter: architecture === 'swiftshader' ? 'swiftshader' : 'gpu',
    device: name,
    driver: { vendor, architecture, device: model, description },
    features: [...device.features].sort(),
    traits: traitsOf(device),
    robustness: true,
    timer: kind,
    settings: {},
    quick,
    full: false,
    node: `none; ${navigator.userAgent}`,
    platform: navigator.platform,
    cpu: `${navigator.hardwareConcurrency} threads`,
  };
}

function contextFor(device: GPUDevice, suite: string, quick: boolean, signal: AbortSignal): DeviceContext {
  const log = element('log');
  return {
    gpu: { device },
    robustness: true,
    quick,
    full: false,
    storage: 'auto',
    log: (line) => log.append(`${suite}: ${line}\n`),
    progress(done, total, label) {
      signal.throwIfAborted();
      status.textContent = `${suite}: ${label}`;
      progress.max = total;
      progress.value = done;
    },
    // As in a file: undefined is gone, NaN is null.
    measured: async (_, run) => JSON.parse(JSON.stringify(await run())),
  };
}

async function run(page: PageDevice, signal: AbortSignal): Promise<Report> {
  const quick = checked('quick');
  const names = Object.keys(SUITES).filter((name) => checked(`suite-${name}`));
  const report: Report = {
    provenance: provenanceOf(page, names, quick),
    results: [],
    summary: {},
    skipped: [],
  };
  for (const name of names) {
    try {
      const outcome = await SUITES[name](contextFor(page.device, name, quick, signal));
      report.results.push(...outcome.results);
      Object.assign(report.summary, outcome.summary);
      for (const skipped of outcome.skipped ?? []) report.skipped.push({ suite: name, ...skipped });
    } catch (error) {
      // What the other suite measured stands.
      const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      report.skipped.push({ suite: name, case: 'all', reason });
      if (!signal.aborted) showError(error);
    }
  }
  return report;
}

function show({ summary }: Report): void {
  const rows = Object.entries(summary).map(([name, value]) => {
    const row = document.createElement('tr');
    for (const text of [name, value.toPrecision(4)]) {
      const cell = document.createElement('td');
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  });
  element('summary-rows').replaceChildren(...rows);
  element('summary').hidden = rows.length === 0;
}

function save(report: Report): void {
  const file = new Blob([`${JSON.stringify(report, null, 2)}\n`], { type: 'application/json' });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = `pairslab-${report.provenance.adapter}-${report.provenance.date.slice(0, 10)}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function start(): Promise<void> {
  const page = await openDevice();
  element('app').hidden = false;
  element('adapter').textContent = page.name;
  page.device.addEventListener('uncapturederror', ({ error }) => showError(error));
  const [runButton, stopButton, saveButton] = ['run', 'stop', 'save'].map((id) =>
    element<HTMLButtonElement>(id),
  );
  let report: Report | null = null;
  let stop = new AbortController();
  element('bench').addEventListener('submit', async (event) => {
    event.preventDefault();
    clearError();
    stop = new AbortController();
    element('log').textContent = '';
    runButton.disabled = true;
    stopButton.disabled = false;
    progress.hidden = false;
    const started = performance.now();
    report = await run(page, stop.signal);
    status.textContent = `${stop.signal.aborted ? 'Stopped' : 'Done'} after ${((performance.now() - started) / 1000).toFixed(0)} s.`;
    progress.hidden = true;
    runButton.disabled = false;
    stopButton.disabled = true;
    saveButton.disabled = false;
    show(report);
  });
  stopButton.addEventListener('click', () => stop.abort());
  saveButton.addEventListener('click', () => report && save(report));
  element('error-close').addEventListener('click', clearError);
}

start().catch(showUnsupported);
