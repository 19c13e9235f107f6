#include "cli/core/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>

#include "cli/core/launcher.h"
#include "cli/core/mends.h"
#include "launcher/tree/host_users.h"
#include "sys/unix_socket.h"

namespace hf::cli {

using launcher::kOperatorsGroup;

namespace {

constexpr size_t kReplyBytesMax = size_t{16} << 20;
constexpr int kLookMs = 500;  // a waiting call looks so often whether somebody is left to answer

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiFree {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

size_t append_reply(char* data, size_t size, size_t count, void* user) {
  auto& reply = *static_cast<std::string*>(user);
  if (reply.size() + size * count > kReplyBytesMax) return 0;
  reply.append(data, size * count);
  return size * count;
}

struct StreamState {
  CURL* easy = nullptr;
  const std::function<bool(std::string_view)>* take = nullptr;
  std::string error_body;
  bool ended_by_us = false;
};

size_t pass_chunk(char* data, size_t size, size_t count, void* user) {
  auto& state = *static_cast<StreamState*>(user);
  long status = 0;
  curl_easy_getinfo(state.easy, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 400) {
    state.error_body.append(data, size * count);
    return size * count;
  }
  if ((*state.take)(std::string_view(data, size * count))) return size * count;
  state.ended_by_us = true;
  return 0;
}

Error error_of(std::string_view body, long status, const std::string& state) {
  Result<sys::JsonObject> parsed = sys::parse_json_object(body);
  if (parsed.ok()) {
    Result<const sys::JsonObject*> error = sys::get_object(*parsed, "error");
    if (error.ok()) return completed_of_site(sys::error_from_json(**error), state);
  }
  return {.code = ErrorCode::kInternal,
          .cause = "holdfastd answered with HTTP status " + std::to_string(status),
          .effect = "it is not known whether the command was carried out",
          .mend = "holdfast --state " + state + " job list says; holdfastd's log is " + state +
                  "/run/log/daemon.log"};
}

std::string user_words(uid_t uid) {
  const passwd* user = ::getpwuid(uid);
  const std::string number = "user " + std::to_string(uid);
  return user == nullptr ? number : number + " (" + user->pw_name + ")";
}

// The socket is its daemon's user's, and so is what lies above it where the site has one user for
// all. Where it cannot be seen at all, root's is the only name that is known.
std::optional<uid_t> user_of_daemon(const std::string& state, const std::string& socket) {
  struct stat info{};
  for (const std::string& path : {socket, state + "/run"}) {
    if (::stat(path.c_str(), &info) == 0) return info.st_uid;
  }
  return std::nullopt;
}

}  // namespace

Error not_permitted(const std::string& state, const std::string& socket) {
  // What holdfastd's socket lets in, the vault's for operators does too. Where it is its user's
  // alone, the site has one user for all, and no group is let in; so is none where it is not seen.
  struct stat info{};
  const bool takes_groups =
      ::stat((state + "/run/api.sock").c_str(), &info) == 0 && (info.st_mode & 0060) != 0;
  const group* named = takes_groups ? ::getgrgid(info.st_gid) : nullptr;
  const bool has_group = named != nullptr && named->gr_name == std::string_view(kOperatorsGroup);
  const std::optional<uid_t> owner = user_of_daemon(state, socket);
  std::string who = "root";
  if (owner && *owner != 0) who += " and " + user_words(*owner) + ", as whom holdfastd runs,";
  if (has_group) who += " and who is in the group " + std::string(kOperatorsGroup);
  std::string mend = "run the command as root: sudo holdfast --state " + state + " ...";
  if (takes_groups) {
    const passwd* self = ::getpwuid(::geteuid());
    const std::string name = self == nullptr ? "USER" : self->pw_name;
    mend += "; or, to let " + name + " in for good, as root: ";
    if (!has_group) mend += "groupadd --force --system " + std::string(kOperatorsGroup) + "; ";
    mend += "usermod -aG " + std::string(kOperatorsGroup) + " " + name;
    if (!has_group) mend += "; holdfast --state " + state + " site restart";
    mend += "; then log in again";
  }
  return {.code = ErrorCode::kPermission,
          .cause = user_words(::geteuid()) + " may not use " + socket + ": only " + who + " may",
          .effect = "nothing was done",
          .mend = std::move(mend)};
}

Error Client::unreachable(std::string_view why) const {
  // The client library tells of both with one number.
  const std::string socket = api_socket();
  if (::faccessat(AT_FDCWD, socket.c_str(), W_OK, AT_EACCESS) != 0 && errno == EACCES) {
    return not_permitted(state_, socket);
  }
  return nobody_serves(state_, "holdfastd", why);
}

// One request on a connection of its own, prepared.
struct Client::Call {
  std::unique_ptr<CURL, EasyFree> easy{curl_easy_init()};
  std::unique_ptr<curl_slist, ListFree> headers;
  sys::SocketPath socket;
  std::string url;
};

Result<Client::Call> Client::prepare(const std::string& target) const {
  Call call;
  HF_ASSERT(call.easy != nullptr);
  Result<sys::SocketPath> socket = sys::short_socket_path(api_socket());
  if (!socket.ok()) return unreachable(socket.error().cause);
  call.socket = std::move(*socket);
  call.url = "http://localhost" + target;
  curl_easy_setopt(call.easy.get(), CURLOPT_UNIX_SOCKET_PATH, call.socket.text.c_str());
  curl_easy_setopt(call.easy.get(), CURLOPT_URL, call.url.c_str());
  curl_easy_setopt(call.easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(call.easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(call.easy.get(), CURLOPT_CONNECTTIMEOUT_MS, 3000L);
  return call;
}

// Until it is answered, a watch ends it, or there is nobody left to answer it.
Client::Outcome Client::perform(Call& call, const std::vector<Watch>& watches) const {
  std::unique_ptr<CURLM, MultiFree> multi(curl_multi_init());
  HF_ASSERT(multi != nullptr && curl_multi_add_handle(multi.get(), call.easy.get()) == CURLM_OK);
  Outcome outcome{.curl = CURLE_OK};
  LauncherWatch launcher(state_);
  std::vector<curl_waitfd> waits;
  for (const Watch& watch : watches)
    waits.push_back({.fd = watch.fd, .events = CURL_WAIT_POLLIN, .revents = 0});
  for (;;) {
    int running = 0;
    HF_ASSERT(curl_multi_perform(multi.get(), &running) == CURLM_OK);
    if (running == 0) break;
    HF_ASSERT(curl_multi_poll(multi.get(), waits.data(), static_cast<unsigned>(waits.size()),
                              kLookMs, nullptr) == CURLM_OK);
    for (size_t i = 0; i < watches.size(); ++i) {
      outcome.watch_ended = outcome.watch_ended || (waits[i].revents != 0 && !watches[i].ready());
    }
    outcome.nobody_left = launcher.given_up();
    if (outcome.watch_ended || outcome.nobody_left) break;
  }
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
    if (message->msg == CURLMSG_DONE) outcome.curl = message->data.result;
  }
  if (outcome.nobody_left) outcome.curl = CURLE_OPERATION_TIMEDOUT;
  curl_multi_remove_handle(multi.get(), call.easy.get());
  return outcome;
}

Result<sys::JsonValue> Client::ask(const char* method, const std::string& target,
                                   const std::string* body, const std::vector<Watch>& watches) {
  Call call = TRY(prepare(target));
  std::string reply;
  CURL* easy = call.easy.get();
  call.headers.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
  call.headers.reset(curl_slist_append(call.headers.release(), "Expect:"));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 60000L);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call.headers.get());
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, append_reply);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &reply);
  if (body != nullptr) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body->data());
  }
  const Outcome outcome = perform(call, watches);
  if (outcome.watch_ended)
    return Error{.code = ErrorCode::kTimeout, .cause = "it was not waited for"};
  if (outcome.curl != CURLE_OK) {
    Error error = unreachable(curl_easy_strerror(static_cast<CURLcode>(outcome.curl)));
    // It may have heard it.
    if (error.code == ErrorCode::kUnavailable && outcome.curl != CURLE_COULDNT_CONNECT &&
        std::string_view(method) != "GET") {
      error.effect = "whether the command is carried out is not known";
      error.mend = (outcome.nobody_left ? error.mend + ", then " : std::string()) +
                   "holdfast --state " + state_ + " job list says; then the same command again";
    }
    return error;
  }
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 400) return error_of(reply, status, state_);
  return sys::parse_json(reply, {.bytes_max = kReplyBytesMax, .depth_max = 16});
}

Result<sys::JsonValue> Client::get(const std::string& target) {
  return ask("GET", target, nullptr);
}

Result<sys::JsonValue> Client::post(const std::string& target, const sys::JsonObject& body) {
  std::string text = sys::to_text(body);
  return ask("POST", target, &text);
}

Result<sys::JsonValue> Client::put(const std::string& target, const sys::JsonObject& body) {
  std::string text = sys::to_text(body);
  return ask("PUT", target, &text);
}

Result<sys::JsonValue> Client::remove(const std::string& target) {
  return ask("DELETE", target, nullptr);
}

Status Client::post_bytes(const std::string& target, std::string_view bytes,
                          const std::vector<Watch>& watches) {
  std::string text(bytes);
  Result<sys::JsonValue> reply = ask("POST", target, &text, watches);
  if (!reply.ok()) return reply.error();
  return {};
}

Status Client::stream(const std::string& target, const std::function<bool(std::string_view)>& take,
                      const std::vector<Watch>& watches) {
  Call call = TRY(prepare(target));
  StreamState state{.easy = call.easy.get(), .take = &take, .error_body = {}};
  curl_easy_setopt(call.easy.get(), CURLOPT_WRITEFUNCTION, pass_chunk);
  curl_easy_setopt(call.easy.get(), CURLOPT_WRITEDATA, &state);
  const Outcome outcome = perform(call, watches);
  long status = 0;
  curl_easy_getinfo(call.easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (state.ended_by_us || outcome.watch_ended) return {};
  if (outcome.curl != CURLE_OK)
    return unreachable(curl_easy_strerror(static_cast<CURLcode>(outcome.curl)));
  if (status >= 400) return error_of(state.error_body, status, state_);
  return {};
}

std::string url_escape(std::string_view text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
      continue;
    }
    auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

}  // namespace hf::cli
