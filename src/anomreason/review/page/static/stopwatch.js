// How long somebody looked at an item; time during which the tab was hidden is left out.
//
//   watch.start(); watch.seconds();

export class Stopwatch {
  constructor() {
    this.start();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.before += performance.now() - this.since;
      else this.since = performance.now();
    });
  }

  start() {
    this.before = 0;
    this.since = performance.now();
  }

  /** Since the start, to the millisecond; a day at most. */
  seconds() {
    const milliseconds = this.before + (document.hidden ? 0 : performance.now() - this.since);
    return Math.min(Math.round(milliseconds) / 1000, 86_400);
  }
}
