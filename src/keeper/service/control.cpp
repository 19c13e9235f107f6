#include "keeper/service/control.h"

namespace hf::keeper {
namespace {

// An attestation record of its full size, in base64.
constexpr size_t kLineMax = size_t{1536} << 10;
constexpr size_t kControlConnectionsMax = 16;

class ControlConnection final : public LocalConnection {
 public:
  ControlConnection(LocalServer& server, sys::UniqueFd socket, ControlHandler& handler)
      : LocalConnection(server, std::move(socket)), handler_(handler) {}

 private:
  // What a reply finds its way back by: the connection may go first.
  struct Waiting {
    ControlConnection* connection;
  };

  void on_received(ByteSpan bytes) override {
    const size_t before = line_.size();
    line_ += as_text(bytes);
    if (line_.size() > kLineMax) return fail();
    const size_t end = line_.find('\n', before);
    if (end == std::string::npos) return receive_more();
    // A client waits for its answer before it asks again; what stands behind the line is dropped.
    Result<sys::JsonObject> request = sys::parse_json_object(
        std::string_view(line_).substr(0, end), {.bytes_max = kLineMax, .depth_max = 8});
    line_ = {};
    if (!request.ok()) return answer(std::move(request).error());
    waiting_ = std::make_shared<Waiting>(Waiting{.connection = this});
    handler_.handle(*std::move(request), [waiting = waiting_](Result<sys::JsonObject> result) {
      if (waiting->connection != nullptr) waiting->connection->answer(std::move(result));
    });
  }

  void on_closing() override {
    if (waiting_ != nullptr) waiting_->connection = nullptr;
  }

  void answer(Result<sys::JsonObject> result) {
    if (waiting_ != nullptr) waiting_->connection = nullptr;  // once
    sys::JsonObject object;
    if (result.ok()) {
      object = *std::move(result);
      object["ok"] = true;
    } else {
      object = {{"ok", false}, {"error", sys::error_to_json(result.error())}};
    }
    const std::string text = sys::to_text(object) + "\n";
    ByteSpan raw = as_bytes(text);
    send({raw.begin(), raw.end()});
  }

  ControlHandler& handler_;
  std::string line_;
  std::shared_ptr<Waiting> waiting_;
};

}  // namespace

ControlServer::ControlServer(sys::Reactor& reactor, sys::UniqueFd listener, ControlHandler& handler)
    : server_(reactor, std::move(listener), kControlConnectionsMax,
              [&handler](LocalServer& server, sys::UniqueFd socket) {
                return std::make_unique<ControlConnection>(server, std::move(socket), handler);
              }) {}

}  // namespace hf::keeper
