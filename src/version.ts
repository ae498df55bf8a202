/** The package's version, as in package.json (a test compares): a bundle of the core can read no file. */
export const VERSION = '0.1.0';
