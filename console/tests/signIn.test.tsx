import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import SignIn from "../src/app/SignIn";

const OWN = "correct horse battery";
let sent: { url: string; body: Record<string, string> }[] = [];
let oidc = false;

function answer(url: string, body: Record<string, string>): Response {
  if (url.endsWith("/login") && !body.name) return Response.json({ oidc });
  if (body.password === "wrong") return Response.json({ code: "SignInRefused", error: "The user name or the password is wrong.", requestId: "1" }, { status: 401 });
  if (body.password === "once" && !body.newPassword) return Response.json({ code: "PasswordChangeNeeded", error: "", requestId: "1" }, { status: 403 });
  return new Response(null, { status: 204 });
}

beforeEach(() => {
  sent = [];
  oidc = false;
  vi.stubGlobal("fetch", async (url: string, init: RequestInit = {}) => {
    const body = init.body ? JSON.parse(String(init.body)) : {};
    if (init.method === "POST") sent.push({ url, body });
    return answer(url, body);
  });
});

function type(label: string, text: string): void {
  fireEvent.change(screen.getByLabelText(label), { target: { value: text } });
}

function press(name: string): void {
  fireEvent.click(screen.getByRole("button", { name }));
}

test("name and password are posted, and a refusal is said", async () => {
  const onSignedIn = vi.fn();
  render(<SignIn onSignedIn={onSignedIn} />);
  type("User name", "ann");
  type("Password", "wrong");
  press("Sign in");
  expect(await screen.findByText("The user name or the password is wrong.")).toBeTruthy();
  expect(onSignedIn).not.toHaveBeenCalled();
  type("Password", OWN);
  press("Sign in");
  await waitFor(() => expect(onSignedIn).toHaveBeenCalledOnce());
  expect(sent.at(-1)).toEqual({ url: "/api/v1/login", body: { name: "ann", password: OWN } });
  expect(screen.queryByRole("button", { name: "Sign in with single sign-on" })).toBeNull();
});

test("after a password that is good once, a long enough one must be given twice", async () => {
  const onSignedIn = vi.fn();
  render(<SignIn onSignedIn={onSignedIn} />);
  type("User name", "ann");
  type("Password", "once");
  press("Sign in");
  expect(await screen.findByText("Choose a password")).toBeTruthy();
  const button = (): HTMLButtonElement => screen.getByRole("button", { name: "Change password and sign in" });
  type("New password", "short");
  type("New password again", "short");
  expect(button().disabled).toBe(true);
  type("New password", OWN);
  expect(await screen.findByText("The two differ.")).toBeTruthy();
  type("New password again", OWN);
  expect(button().disabled).toBe(false);
  fireEvent.click(button());
  await waitFor(() => expect(onSignedIn).toHaveBeenCalledOnce());
  expect(sent.at(-1)?.body).toEqual({ name: "ann", password: "once", newPassword: OWN });
});

test("single sign-on is offered if the server has a provider", async () => {
  oidc = true;
  render(<SignIn onSignedIn={() => undefined} />);
  expect(await screen.findByRole("button", { name: "Sign in with single sign-on" })).toBeTruthy();
});
