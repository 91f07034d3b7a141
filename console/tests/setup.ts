import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";

// What the pages wait for takes long on a busy machine.
configure({ asyncUtilTimeout: 30_000 });
afterEach(cleanup);
