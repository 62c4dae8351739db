// Submits one message with nodemailer and a client certificate: WAY PORT CA CERT KEY DSN FROM FILE RECIPIENT; "-" for CERT shows none.
const fs = require("fs");
const [way, port, ca, certificate, key, dsn, sender, file, recipient] = process.argv.slice(2);
const tls = { ca: fs.readFileSync(ca) };
if (certificate !== "-") Object.assign(tls, { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) });
const transport = require("nodemailer").createTransport({
  host: "localhost", port: Number(port), secure: way === "implicit", requireTLS: true, tls,
});
const mail = { raw: fs.readFileSync(file), envelope: { from: sender, to: [recipient] } };
if (dsn === "dsn") mail.dsn = { id: "nodemailer", return: "headers", notify: ["success"], recipient };
transport.sendMail(mail).then((said) => console.log(said.response)).catch((fault) => {
  console.error(fault.message);
  process.exit(1);
});
