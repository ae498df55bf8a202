/** WGSL sources are inlined as text by the build and by the test runner. */
declare module '*.wgsl' {
  const source: string;
  export default source;
}
