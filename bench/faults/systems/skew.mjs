// node --import ./skew.mjs …: every clock JavaScript has is FAULTS_SKEW_MS ahead.
const skew = Number(process.env.FAULTS_SKEW_MS ?? 0);
if (skew) {
  const Real = Date;
  const now = () => Real.now() + skew;
  globalThis.Date = new Proxy(Real, {
    construct: (target, given, made) => Reflect.construct(target, given.length ? given : [now()], made),
    apply: () => new Real(now()).toString(),
    get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
  });
}
