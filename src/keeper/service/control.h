// The control socket: one JSON object a line, answered by one line. For the daemon.
//
//   {"op":"status"}                →
//   {"ok":true,"state":"serving","pid":…,"epoch":…,"incarnation":hex,
//                                     "appended":n,"durable":n,"chain":hex,"vtpm":"…","journal_public_key":hex,…}
//   {"op":"pin","sequence":n}      → the peer has everything up to n durably; {"op":"unpin"} ends
//   it
//   {"op":"stop"}                  → answers at once; the keeper then stops in order and exits
//   anything else                  → {"ok":false,"error":{…}}
//
// Attestation (b64: RFC 4648, section 4, with padding; banks "sha1", "sha256", "sha384", "sha512"):
//   {"op":"measurements","from":n} → {"boot":{"id":hex16,"started_us":t,"powered":bool,"complete":
//                                     bool,"startup_locality":l,"exit_boot_services":n|null,
//                                     "exit_us":t|null},"total":N,"extends":[{"n","pcr","locality",
//                                     "time_us","digests":{bank:hex}}…]}, at most 256 of them; a
//                                     change that is no extend says so in "kind": "reset", "hcrtm",
//                                     "drtm" (vtpm/extend_recorder.h)
//   {"op":"pcrs"}                  → {"pcrs":{bank:{"0":hex…}}}
//   {"op":"attestation_key"}       → {"ak_public":b64 TPM2B_PUBLIC,"ak_name":hex,"ek_public":b64
//                                     TPM2B_PUBLIC,"ek_certificate":b64 DER|null}
//   {"op":"activate_credential","id_object":b64,"encrypted_secret":b64} → {"secret":b64}
//   {"op":"quote","nonce":b64,"selection":{bank:[0,…]}} → {"quote":b64 TPMS_ATTEST,"signature":b64
//                                     TPMT_SIGNATURE,"pcrs":{bank:{"0":hex…}},"boot_id":hex16,
//                                     "total":N}: values and record as they were at the quote
//   {"op":"secure_boot"}           → {"variables":{…},"saved":[{"name","time_us"}…]}; variables as
//                                     secure_boot/change/variables_json.h writes them
//   {"op":"secure_boot_edit","changes":[{"variable":"db","action":"set"|"append"|"remove","data":b64
//                                     }…]}: all or none, durable when answered
//   {"op":"secure_boot_save","name":…}, {"op":"secure_boot_restore","name":…},
//   {"op":"secure_boot_forget","name":…}: copies of the variable store, kept in the journal
//   {"op":"boot_files"}            → {"ticket":n}; with it later, what the first disk boots
//                                     (keeper/service/boot_files.h)
//   {"op":"attestation_put","data":b64} → durable when answered; {"op":"attestation_get"} →
//                                     {"data":b64|null}: what travels with every recovery point
// Edits and restores are refused (conflict) while QEMU is connected to the variable store; what
// needs the vTPM (pcrs, quote, activate_credential) is unavailable while it is off.
#pragma once

#include <functional>

#include "keeper/service/local_server.h"
#include "sys/json.h"

namespace hf::keeper {

// Called once, on the reactor's thread, at once or later; the client may be gone by then.
using ControlReply = std::move_only_function<void(Result<sys::JsonObject>)>;

class ControlHandler {
 public:
  virtual void handle(sys::JsonObject request, ControlReply reply) = 0;

 protected:
  ~ControlHandler() = default;
};

class ControlServer {
 public:
  ControlServer(sys::Reactor& reactor, sys::UniqueFd listener, ControlHandler& handler);
  void start() { server_.start(); }
  void stop() { server_.stop(); }
  bool stopped() const { return server_.stopped(); }

 private:
  LocalServer server_;
};

}  // namespace hf::keeper
