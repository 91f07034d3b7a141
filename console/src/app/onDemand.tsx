import { type ComponentType, type ReactNode, useEffect, useState } from "react";

/**
 * A component whose module loads when it is first shown, with a fallback until then.
 * It appears as soon as it has loaded: `Suspense` would wait until 300 ms after the last fallback.
 */
export function onDemand<Props extends object>(load: () => Promise<{ default: ComponentType<Props> }>, waiting: ReactNode = null): ComponentType<Props> {
  let Loaded: ComponentType<Props> | null = null;
  return function OnDemand(props: Props): ReactNode {
    const [, setShown] = useState(Loaded !== null);
    const [failure, setFailure] = useState<Error | null>(null);
    useEffect(() => {
      if (Loaded) return;
      load().then(
        (module) => {
          Loaded = module.default;
          setShown(true);
        },
        (error: unknown) => setFailure(error instanceof Error ? error : new Error(String(error))),
      );
    }, []);
    if (failure) throw failure;
    return Loaded ? <Loaded {...props} /> : waiting;
  };
}
