// Passkeys: asks the browser, puts its answer into the form, and sends the form as any other.
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
  const create = async (options) => {
    const found = await navigator.credentials.create({ publicKey: {
      ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: known(options.excludeCredentials),
    } });
    return { attestationObject: text(found.response.attestationObject), found };
  };
  const get = async (options) => {
    const found = await navigator.credentials.get({ publicKey: {
      ...options, challenge: bytes(options.challenge), allowCredentials: known(options.allowCredentials),
    } });
    const { authenticatorData, signature, userHandle } = found.response;
    return { authenticatorData: text(authenticatorData), signature: text(signature), userHandle: userHandle ? text(userHandle) : null, found };
  };
  const written = ({ found, ...response }) => JSON.stringify({
    id: found.id, rawId: text(found.rawId), type: found.type, clientExtensionResults: {},
    authenticatorAttachment: found.authenticatorAttachment || null,
    response: { clientDataJSON: text(found.response.clientDataJSON), ...response },
  });
  const WORDS = {
    NotAllowedError: "Nothing was signed: it took too long, or was cancelled.",
    InvalidStateError: "This device has a passkey for you already.",
    SecurityError: "The browser allows no passkeys at this address.",
  };
  document.querySelectorAll("form[data-passkey]").forEach((form) => {
    if (!window.PublicKeyCredential) { form.hidden = true; return; }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const fault = form.querySelector("[data-passkey-fault]");
      fault.hidden = true;
      try {
        const options = JSON.parse(form.dataset.options);
        form.elements.credential.value = written(await (form.dataset.passkey === "create" ? create(options) : get(options)));
        form.submit();
      } catch (error) {
        fault.textContent = WORDS[error.name] || "The passkey could not be used.";
        fault.hidden = false;
      }
    });
  });
})();
