import type { Palette } from './view/scene.js';

/** The cells' colours as the style sheet has them now. */
export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): number[] => {
    const [, digits] = /^#([0-9a-f]{6})$/i.exec(style.getPropertyValue(`--cell-${name}`).trim()) ?? [];
    const value = Number.parseInt(digits ?? '808080', 16);
    return [(value >> 16) / 255, ((value >> 8) & 255) / 255, (value & 255) / 255, 1];
  };
  return {
    background: colour('background'),
    empty: colour('empty'),
    evicted: colour('evicted'),
    old: colour('old'),
    fresh: colour('fresh'),
    flash: colour('flash'),
    chosen: colour('chosen'),
  };
}
