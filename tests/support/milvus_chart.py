"""A stand-in for the official Milvus chart 5.0.19, which the tests cannot fetch: the same pods.

Names, labels, ports, probes, volumes and mounts are those of the official chart, as far as
`tests/deploy/test_milvus_chart.py` compares them; it does so where MILVUS_CHART names a checkout.
"""

_HELPERS = """
{{- define "milvus.fullname" -}}
{{ contains "milvus" .Release.Name | ternary .Release.Name (printf "%s-milvus" .Release.Name) }}
{{- end }}
{{- define "milvus.selector" -}}
app.kubernetes.io/name: milvus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "milvus.labels" -}}
helm.sh/chart: milvus-{{ .Chart.Version }}
{{ include "milvus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
"""

_OBJECTS = """
{{- $ := . }}
{{- $name := include "milvus.fullname" . }}
{{- $cluster := .Values.cluster.enabled }}
{{- $door := ternary "proxy" "standalone" $cluster }}
{{- $alone := .Values.standalone.persistence }}
{{- $claim := $alone.persistentVolumeClaim }}
{{- $disk := dig "disk" "enabled" true (ternary .Values.queryNode .Values.standalone $cluster) }}
{{- $roles := list (dict "component" "standalone" "values" .Values.standalone "port" 19530
    "args" (list "standalone") "recreate" true) }}
{{- if $cluster }}
{{- $mixture := list "mixture" "-rootcoord" "-querycoord" "-datacoord" "-indexcoord" }}
{{- $roles = list
    (dict "component" "proxy" "values" .Values.proxy "port" 19530)
    (dict "component" "mixcoord" "values" .Values.mixCoordinator "args" $mixture "recreate" true)
    (dict "component" "querynode" "values" .Values.queryNode "port" 21123)
    (dict "component" "datanode" "values" .Values.dataNode "port" 21124) }}
{{- if .Values.streaming.enabled }}
{{- $roles = append $roles (dict "component" "streamingnode" "values" .Values.streamingNode
    "port" 22222) }}
{{- end }}
{{- end }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
data:
  default.yaml: |
    queryNode: {enableDisk: {{ $disk }}}
  {{- range $key, $value := .Values.extraConfigFiles }}
  {{ $key }}: {{ $value | quote }}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "milvus.labels" . | nindent 4 }}
    component: {{ $door }}
spec:
  type: ClusterIP
  selector:
    {{- include "milvus.selector" . | nindent 4 }}
    component: {{ $door }}
  ports:
    - {name: milvus, port: {{ .Values.service.port }}, protocol: TCP, targetPort: milvus}
    - {name: metrics, port: 9091, protocol: TCP, targetPort: metrics}
{{- if and (not $cluster) $alone.enabled (not $claim.existingClaim) }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "milvus.labels" . | nindent 4 }}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: {{ $claim.size }}}}
{{- end }}
{{- range $roles }}
{{- $component := .component }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}-{{ $component }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "milvus.labels" $ | nindent 4 }}
    component: {{ $component }}
  # The roles of a cluster have none, and YAML reads that as null.
  annotations:
    {{- if not $cluster }}
    milvus.io/message-queue: {{ .values.messageQueue }}
    {{- end }}
spec:
  replicas: 1
  {{- if .recreate }}
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels: &labels
      {{- include "milvus.selector" $ | nindent 6 }}
      component: {{ $component }}
  template:
    metadata:
      labels: *labels
      annotations: {checksum/config: {{ toJson $.Values.extraConfigFiles | sha256sum }}}
    spec:
      serviceAccountName: default
      initContainers:
      containers:
        - name: {{ $component }}
          image: milvusdb/milvus:v{{ $.Chart.AppVersion }}
          imagePullPolicy: IfNotPresent
          args: {{ concat (list "milvus" "run") (.args | default (list $component)) | toJson }}
          env:
          ports:
            {{- with .port }}
            - name: {{ eq . 19530 | ternary "milvus" $component }}
              containerPort: {{ . }}
              protocol: TCP
            {{- end }}
            - {name: metrics, containerPort: 9091, protocol: TCP}
          livenessProbe:
            tcpSocket: {port: metrics}
            {{- omit $.Values.livenessProbe "enabled" | toYaml | nindent 12 }}
          readinessProbe:
            httpGet: {path: /healthz, port: metrics}
            {{- omit $.Values.readinessProbe "enabled" | toYaml | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: tools, mountPath: /milvus/tools}
            {{- range list "default.yaml" "user.yaml" }}
            - name: milvus-config
              mountPath: /milvus/configs/{{ . }}
              subPath: {{ . }}
              readOnly: true
            {{- end }}
            {{- if eq $component "standalone" }}
            - {name: milvus-data-disk, mountPath: {{ $alone.mountPath }}, subPath: null}
            {{- else if eq $component "streamingnode" }}
            - {name: woodpecker, mountPath: /var/lib/milvus}
            {{- end }}
            {{- if dig "disk" "enabled" false .values }}
            - {name: disk, mountPath: /var/lib/milvus/data}
            {{- end }}
      volumes:
        - {name: tools, emptyDir: {}}
        - {name: milvus-config, configMap: {name: {{ $name }}}}
        {{- if eq $component "standalone" }}
        - name: milvus-data-disk
          {{- if $alone.enabled }}
          persistentVolumeClaim: {claimName: {{ $claim.existingClaim | default $name }}}
          {{- else }}
          emptyDir: {}
          {{- end }}
        {{- else if eq $component "streamingnode" }}
        - {name: woodpecker, emptyDir: {}}
        {{- end }}
        {{- if dig "disk" "enabled" false .values }}
        - {name: disk, emptyDir: {}}
        {{- end }}
{{- end }}
"""

_VALUES = """
cluster: {enabled: true}
service: {port: 19530}
streaming: {enabled: true}
extraConfigFiles: {user.yaml: ""}
livenessProbe: &probe
  enabled: true
  initialDelaySeconds: 90
  periodSeconds: 30
  timeoutSeconds: 5
  successThreshold: 1
  failureThreshold: 5
readinessProbe:
  <<: *probe
  periodSeconds: 10
standalone:
  resources: {}
  messageQueue: woodpecker
  disk: {enabled: true}
  persistence:
    enabled: true
    mountPath: /var/lib/milvus
    persistentVolumeClaim: {existingClaim: "", size: 50Gi}
proxy: {resources: {}}
mixCoordinator: {resources: {}}
queryNode: {resources: {}, disk: {enabled: true}}
dataNode: {resources: {}}
streamingNode: {resources: {}}
"""

# Path within the chart -> text.
STAND_IN = {
    "Chart.yaml": "{apiVersion: v2, name: milvus, version: 5.0.19, appVersion: 2.6.15}",
    "values.yaml": _VALUES,
    "templates/_helpers.tpl": _HELPERS,
    "templates/milvus.yaml": _OBJECTS,
}
