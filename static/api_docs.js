// /docs: shows /openapi.json with the vendored Swagger UI, light or dark as the system asks.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

const main = document.getElementById("api");
SwaggerUIBundle({
  url: new URL(main.dataset.document, document.baseURI).href,
  domNode: main,
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: false,
  validatorUrl: null,
});
