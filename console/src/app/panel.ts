/** The panel next to a page's content. */

import { createContext, type ReactNode, useContext } from "react";

export interface PanelState {
  content: ReactNode;
  onClose: () => void;
  size?: number;
}

type SetPanel = (next: PanelState | null | ((before: PanelState | null) => PanelState | null)) => void;

export const PanelContext = createContext<SetPanel>(() => undefined);

export function usePanel(): SetPanel {
  return useContext(PanelContext);
}
